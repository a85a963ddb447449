"""What the site takes from the code: the pages of methods, of commands and of config keys."""

"""From an RGB image to the pixels that a tower reads, with Pillow and numpy alone."""

"""Sets that need no packing: a folder, a zip file or an image list, indexed on first use and read like shards."""

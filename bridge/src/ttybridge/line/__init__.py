"""One tty: the device, what waits for it, what is logged of it, who controls its line."""

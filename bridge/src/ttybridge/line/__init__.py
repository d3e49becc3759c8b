"""One tty: the device, its write queue, its log, its line control."""

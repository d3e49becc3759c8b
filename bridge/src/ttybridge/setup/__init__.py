"""What the controller and the commands need: inventory, discover, import, verify, boot files."""

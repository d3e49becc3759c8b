"""What the controller and the commands need: inventory, import, discover, schema."""

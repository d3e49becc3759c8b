"""What is spoken with clients and terminals: bytes in, bytes and events out."""

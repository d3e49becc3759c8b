"""One TCP connection or listener; nothing here knows a port."""

"""A configuration of ser2net, as a port map."""

"""One page about a folder of studies: what is outlined, how large it is, what has grown."""

"""Where the samples of shards lie, as flat arrays, and how to read them."""

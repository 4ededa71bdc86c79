"""`python -m blocks.data.inspect SHARDS`: what shards hold, what is damaged, and what a model would see of them."""

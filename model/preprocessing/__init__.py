"""Posts to tensors: words, compounds, images, and the processor that batches them."""

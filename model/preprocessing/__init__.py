"""Posts to tensors: words, compounds, images, and the processor that puts them into a batch."""

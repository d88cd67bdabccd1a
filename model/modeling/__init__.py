"""The network: what SMNER computes, from tensors to tensors. It knows no text and no files."""

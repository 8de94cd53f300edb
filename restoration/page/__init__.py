"""The Gradio page: layout, what its controls do, its state."""

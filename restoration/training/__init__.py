"""Training of the embedded prior; nothing here is imported by inference."""

"""The machine's bits at a GPU's speed."""

"""What users call: attention, the key/value cache."""

"""What users call: attention, opening a device, the key/value cache."""

"""From the arguments of a call to job descriptors: masks, places in memory, residency, splitting."""

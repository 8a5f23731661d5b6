"""From descriptors to results: devices, their memory, the queue of jobs, the driver."""

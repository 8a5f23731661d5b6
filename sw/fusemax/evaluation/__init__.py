"""What is measured and compared: benchmark, design space, the paper's designs, exact attention."""

"""Native kernels of Segue: functions over arrays, without I/O, clocks, randomness or Python objects."""

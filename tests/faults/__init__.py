"""Faults that tests make: killed children, failing system calls, full disks, power cuts."""

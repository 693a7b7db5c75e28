"""Measures sizes, speeds and errors of bale beside other programs, and writes docs/benchmarks.md."""

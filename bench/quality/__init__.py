"""What quantization does to models: docs/quality.md."""

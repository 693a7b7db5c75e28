"""Programs that bale is measured against, which run in virtual environments of their own."""

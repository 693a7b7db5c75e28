"""Gates: conditions on a report, by which a command fails."""

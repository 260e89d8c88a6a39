"""For users to test with. Public names of the package only."""

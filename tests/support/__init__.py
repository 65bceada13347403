"""What tests of several services share. Nothing here replaces a component that could run for real."""

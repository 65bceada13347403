"""The process `ferrite net apiserver`."""

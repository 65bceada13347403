"""The process `ferrite metalnet apiserver`."""

"""The command lines: one picture, a folder, tables, timings."""

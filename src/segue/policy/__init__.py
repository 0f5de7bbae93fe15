"""Policies: files of text that become tables and machine code. LANGUAGE.md is the page for their authors."""

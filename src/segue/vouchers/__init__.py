"""Vouchers: campaigns, codes, and the ledger that never grants or redeems one too many."""

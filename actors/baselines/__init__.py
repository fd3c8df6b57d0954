"""Trains what STARS is measured against: SFT and DPO of the embedded policy, with TRL."""

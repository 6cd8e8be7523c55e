"""FEI TIA (ES Vision): SER and EMI."""

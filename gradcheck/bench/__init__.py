"""What each formula costs, beside its peers and the limit of the machine; nothing here judges anything."""

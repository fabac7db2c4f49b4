"""Networks and the formulas that train them; none of them sees settings."""

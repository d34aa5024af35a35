"""The page people look at a market with: files, their headers, and what they are drawn with."""

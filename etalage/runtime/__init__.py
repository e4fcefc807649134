"""An export opened: one file a kind, each reads, aligns, scores, retrieves and explains. No torch."""

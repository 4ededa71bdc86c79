"""Numbers -> matplotlib figures. Ink and grounds are those of matplotlib's rcParams, so that a page can be dark."""

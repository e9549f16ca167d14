"""Runs become what people look at: terminal, Markdown, CSV, LaTeX, plots, one self-contained HTML file."""

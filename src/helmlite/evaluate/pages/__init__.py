"""Reports for people.

run_page.py, comparison_page.py   the HTML page of a run and of a comparison: one file that opens offline
html.py, page.css                 what every page is made of;  plots.py, robustness_plot.py: SVG;  gallery.py: crops
findings_card.py                  what is wrong, named first on every page
markdown.py, terminal.py          both for a pull request and in a terminal
"""

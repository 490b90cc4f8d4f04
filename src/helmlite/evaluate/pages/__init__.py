"""Reports for people.

run_page.py, comparison_page.py   the HTML page of a run and of a comparison: one file that opens offline
cross_domain_page.py              that of models trained in one place and tested in others
html.py, page.css                 what every page is made of;  plots.py, robustness_plot.py: SVG;  gallery.py: crops
markdown.py, terminal.py          both for a pull request and in a terminal
"""

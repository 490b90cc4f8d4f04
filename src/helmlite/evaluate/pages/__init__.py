"""Reports for people.

run_page.py, comparison_page.py   the HTML page of a run and of a comparison: one file that opens offline
translate.py, chinese.py          the finished page in Chinese, from templates of what pages say
cross_domain_page.py              that of models trained in one place and tested in others
html.py, page.css                 what every page is made of;  plots.py, robustness_plot.py: SVG;  gallery.py: crops
markdown.py, terminal.py          both for a pull request and in a terminal
"""

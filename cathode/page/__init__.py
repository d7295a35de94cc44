"""Reports in one HTML file and figures in one style, for any subject.

``cathode.page.html`` builds pages, ``cathode.page.style`` and ``cathode.page.drawing`` figures, ``cathode.page.text``
numbers as people read them.  Nothing here knows physics; the reports of searches and of showers build on it.
"""

"""A page to look at: what there is on this host and in its cluster, and how it is.

It is made of the feed and of the daemon's answers, as HTML by pure functions, one for each section.
A reader without JavaScript gets the whole page each time; one with it is told which sections have
changed, and fetches these.
"""

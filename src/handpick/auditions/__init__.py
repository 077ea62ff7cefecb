"""An audition: the queries themselves find out which choice helps, before the choice is made (ours).

The queries are cut in two, again and again. Every candidate chooses by one part, an adapter is trained on what it has
chosen, and the other part judges it, beside adapters that were trained on random draws. It is a use of the study's own
machinery: each round is a study, and all that it makes are the study's steps.
"""

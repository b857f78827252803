"""What may be learnt from talks: topics, behaviours and how an answer shows them; closed lists for both sides."""

"""Whether something has become slower: `stored` judges a run by earlier ones, `pairs` two models measured now."""

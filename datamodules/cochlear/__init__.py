"""The cochlear front end: ACE stimulation patterns, their inverse, the sine vocoder, the cache."""

"""The web page: plain HTML, style sheets and ES modules, served as they lie here."""

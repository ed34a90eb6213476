"""Files and folders that outlive whatever stops the process that writes them."""

package router

func runChild() int { return 1 }
